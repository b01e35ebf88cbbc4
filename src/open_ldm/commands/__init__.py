"""What each verb of `ldm` does, one file per verb."""
