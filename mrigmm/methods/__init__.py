"""Methods: everything that segments, one file per method, all behind `methods.base.Method`."""
