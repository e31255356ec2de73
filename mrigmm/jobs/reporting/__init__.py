"""Parts of `report`: one study, and what all studies show together."""
