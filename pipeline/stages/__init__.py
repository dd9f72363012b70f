"""The stages: each reads artefacts, calls the rooms below, and writes artefacts."""
