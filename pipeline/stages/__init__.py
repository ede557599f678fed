"""The stages of the lifecycle, one a file. A stage is a plain function; its parameter names are its edges."""
