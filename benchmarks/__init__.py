"""Side-by-side measurements. They print; they judge nothing."""
