"""The experiments behind the project's claims: plans, their records, and the page made from them."""
