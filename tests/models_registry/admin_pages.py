"""Pages of the admin as a browser has them: what their form would send."""

from html.parser import HTMLParser

from django.test import Client


def opened(client: Client, url: str) -> dict[str, str]:
    """The values that a browser would send from the form of a page, hidden fields included."""
    page = _Form()
    page.feed(client.get(url).content.decode())
    return page.sent


class _Form(HTMLParser):
    """Collects what the form of a row holds."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[str, str] = {}
        self._is_inside = False
        self._writes = ""
        self._select = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note a field's value."""
        given = {name: value or "" for name, value in attributes}
        name = given.get("name", "")
        if tag == "form":
            self._is_inside = given.get("id", "").endswith("_form")
        if not self._is_inside:
            return
        if tag == "option" and self._select and "selected" in given:
            self.sent[self._select] = given["value"]
        elif tag == "select":
            self._select = name
            self.sent.setdefault(name, "")
        elif tag == "textarea":
            self._writes = name
            self.sent[name] = ""
        elif tag == "input" and name and given.get("type") not in ("submit", "button"):
            is_box = given.get("type") in ("checkbox", "radio")
            if not is_box or "checked" in given:
                self.sent[name] = given.get("value", "on" if is_box else "")

    def handle_endtag(self, tag: str) -> None:
        """Leave the field or the form."""
        if tag == "textarea":
            # A browser drops the line break that Django puts before a text.
            self.sent[self._writes] = self.sent[self._writes].removeprefix("\n")
            self._writes = ""
        elif tag == "select":
            self._select = ""
        elif tag == "form":
            self._is_inside = False

    def handle_data(self, data: str) -> None:
        """Take a text area's text."""
        if self._writes:
            self.sent[self._writes] += data
