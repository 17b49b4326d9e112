"""From messages to token ids: templates, vocabularies, and the process that keeps them apart."""
