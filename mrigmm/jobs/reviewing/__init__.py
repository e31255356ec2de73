"""Parts of `mrigmm review`: the studies of a folder as the page shows and saves them, and its server."""
