"""The weights that ship with the package, made by `mrigmm pretrain`, and what reads them."""
