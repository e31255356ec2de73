"""From files to tensors and back: manifest, geometry in mm, reading, MONAI transforms."""
