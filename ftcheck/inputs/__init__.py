"""What rules and trainers ask for by argument name: records, protocols, and what opens them."""
