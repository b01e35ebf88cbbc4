"""One file = one page of the studio: its widgets, and which function of the package each of them calls."""
