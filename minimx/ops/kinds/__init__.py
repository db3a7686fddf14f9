"""What the kinds of row mean, a module each: elemwise, reduce, view, composite, kernel, random, host."""
