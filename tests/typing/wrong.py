"""Calls that a type checker must refuse: each line ends with the error that it has. Read by tests/test_stubs.py."""

from minimx import np, npx

x = np.ones((2, 3))
np.tanh("text")  # arg-type
np.tanh(x, axis=1)  # call-arg
np.tanh()  # call-arg
np.sum(x, axis="rows")  # arg-type
np.sum(x, keepdims=None)  # arg-type
np.zeros("2, 3")  # arg-type
np.add(x)  # call-arg
np.no_such_function(x)  # attr-defined
npx.convolution(x, kernel=(3, 3))  # call-arg
npx.softmax(x, axis=-1, temprature=2.0)  # call-arg
npx.topk(x, k="5")  # arg-type
x.no_such_method()  # attr-defined
x.sum(axes=0)  # call-arg
x["column"]  # index
x + "text"  # operator
np.linalg.inv(None)  # arg-type
np.random.normal(size=2.5)  # arg-type
n: int = x.mean()  # assignment
