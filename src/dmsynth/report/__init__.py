"""What people look at: figures and the single-file HTML report."""
