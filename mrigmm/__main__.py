"""`python -m mrigmm`."""

from mrigmm.cli import main

if __name__ == "__main__":
    main()
