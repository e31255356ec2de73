"""Clinical numbers of a label map: volumes, masses, transmurality, AHA segments, intervals."""
