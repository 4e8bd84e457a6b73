"""The built-in rules, one module a family, written as a third party would write them."""
