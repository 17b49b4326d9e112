"""Which versions are in memory where: facts, rules, and the plan that follows from them."""
