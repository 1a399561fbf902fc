"""A sync of order lists to boards, customer by customer and in batches, with a report of each run."""
