"""From messages to token ids: templates, vocabularies, and a process of their own."""
