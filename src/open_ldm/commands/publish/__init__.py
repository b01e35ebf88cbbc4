"""Handing a trained model to people who have no open-ldm: a Space of the Hugging Face Hub with the studio's page Play."""
