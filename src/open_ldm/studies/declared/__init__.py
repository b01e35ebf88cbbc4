"""One file a table or figure of arXiv 2411.03177 (method, section 8); `studies.catalogue` lists them."""
