"""Published claims, shown here at a scale of minutes on two cores: one file a claim."""
