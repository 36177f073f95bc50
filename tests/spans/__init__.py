"""The pure conversion: ids, trees, attributes, sizes, and spans exported directly beside what became of them."""
