"""`ftcheck fix`: which changes make failed checks pass, and how they are written into the YAML."""
