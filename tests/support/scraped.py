"""What a scrape of `/metrics` says, by name and labels."""

from prometheus_client.parser import text_string_to_metric_families


class Scraped(dict[str, float]):
    """`scraped["name{a=x,b=y}"]`, labels sorted; `scraped["name"]` without any."""

    @classmethod
    def of(cls, text: str) -> "Scraped":
        """Fails for a text that is not the exposition format."""
        return cls(
            {
                _key(sample.name, sample.labels): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def of_name(self, name: str) -> dict[str, float]:
        """The series of one name that are not nought, by their labels."""
        found = ((key.partition("{"), value) for key, value in self.items())
        return {labels.removesuffix("}"): value for (head, _, labels), value in found if head == name and value}


def _key(name: str, labels: dict[str, str]) -> str:
    told = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
    return f"{name}{{{told}}}" if told else name
