"""HTML pages and figures for people; nothing here knows a run."""
