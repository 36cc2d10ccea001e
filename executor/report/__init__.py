"""One self-contained HTML file about a run: no scripts, nothing from the network."""
