"""The whole study on the embedded default, and its pages."""
