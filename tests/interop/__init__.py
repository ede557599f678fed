"""Other people's systems, each in an environment of its own: `make interop` installs them and runs these."""
