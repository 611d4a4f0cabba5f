"""Where faces come from: a photo that is posed, a recording that is tracked."""
