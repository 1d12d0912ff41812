"""Maps the two source folders onto one package: kubecosm/ is `kubecosm`, services/ is `kubecosm.services`."""

import sys

from setuptools import find_packages, setup

if sys.version_info < (3, 11):  # noqa: UP036  older pips look at the dependencies before they look at requires-python
    sys.exit("kubecosm needs Python 3.11 or newer; this is " + sys.version.split()[0])

setup(
    packages=[
        "kubecosm", *(f"kubecosm.{name}" for name in find_packages("kubecosm")),
        "kubecosm.services", *(f"kubecosm.services.{name}" for name in find_packages("services")),
    ],
    package_dir={"kubecosm": "kubecosm", "kubecosm.services": "services"},
)  # fmt: skip
