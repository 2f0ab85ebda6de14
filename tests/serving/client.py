"""A client of an application in the test's own process, under a name that the server knows itself by."""

from starlette import testclient


class TestClient(testclient.TestClient):
    """Starlette's own, whose server is called ``localhost``."""

    __test__ = False

    def __init__(self, app, **options):
        super().__init__(app, base_url="http://localhost", **options)
