"""Maps the two source folders onto one package: kubecosm/ is `kubecosm`, services/ is `kubecosm.services`."""

from setuptools import find_packages, setup

setup(
    packages=[
        "kubecosm", *(f"kubecosm.{name}" for name in find_packages("kubecosm")),
        "kubecosm.services", *(f"kubecosm.services.{name}" for name in find_packages("services")),
    ],
    package_dir={"kubecosm": "kubecosm", "kubecosm.services": "services"},
)  # fmt: skip
