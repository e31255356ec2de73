"""How close simulated studies are to real ones, for `calibrate_phantom.py`."""
