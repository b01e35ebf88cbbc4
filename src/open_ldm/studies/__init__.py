"""The paper's tables and figures, each a small declaration that trains, measures and writes itself."""
