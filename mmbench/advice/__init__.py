"""`mmbench advise`: candidates for a network, their ranking, the evidence, the page."""
