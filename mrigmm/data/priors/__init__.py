"""Population priors: the shipped ones, users' files, and which one fits a cohort."""
