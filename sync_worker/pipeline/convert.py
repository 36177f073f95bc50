"""Convert: observations to serialised spans. One that fails is dead-lettered alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_worker.pipeline.dead_lettering import DeadLettering
from sync_worker.pipeline.dedupe import second_read_ms
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.trace import TracePart
from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext
from sync_worker.spans.span_model import Conversion, EncodedSpan, Span

if TYPE_CHECKING:
    from sync_worker.spans.conversion import Converted

_Convert = Callable[[Sequence[Observation], TraceContext, str, Conversion, Sequence[Observation]], "Converted"]
_Encode = Callable[[Observation, Span, str, int | None, Mapping[str, int] | None], EncodedSpan]


def _conversion() -> tuple[_Convert, _Encode]:
    """Import the conversion, with the first trace: it is a tenth of all imports, and an idle start needs none."""
    from sync_worker.spans.conversion import convert  # noqa: PLC0415
    from sync_worker.spans.encode import encode  # noqa: PLC0415

    return convert, encode


@dataclass(slots=True)
class Converter:
    """Converts parts of traces."""

    session: Session
    dead_letters: DeadLettering

    def convert(self, part: TracePart) -> list[EncodedSpan]:
        """Return the spans of a part."""
        _conversion()  # a broken installation is no dead letter
        try:
            spans = self._convert(part, part.observations, part.others)
        except Exception as error:  # noqa: BLE001 - the observations are then converted one by one
            self.dead_letters.log_error("convert", part.trace.trace_id, error)
            spans = self._convert_one_by_one(part)
        if spans:
            self.session.report.traces_sent += not part.trace.is_sent
            part.trace.is_sent = True
        return spans

    def _convert_one_by_one(self, part: TracePart) -> list[EncodedSpan]:
        spans: list[EncodedSpan] = []
        for observation in part.observations:
            try:
                spans += self._convert(part, [observation], ())
            except Exception as error:  # noqa: BLE001 - it concerns this observation alone
                self.dead_letters.add_broken(observation, "it cannot be converted", error)
        return spans

    def _convert(
        self, part: TracePart, observations: Sequence[Observation], others: Sequence[Observation]
    ) -> list[EncodedSpan]:
        note = part.trace.note
        project = (note.project if note is not None else None) or self.session.policy.project
        own = {observation.id: observation for observation in observations}
        shown = part.trace.shown | part.resolved  # redacted, with truncated fields resolved
        sent = [shown.get(observation.id, observation) for observation in observations]
        convert, encode = _conversion()
        converted = convert(sent, part.trace.context, project, self.session.policy.conversion, others)
        encoded: list[EncodedSpan] = []
        now = self.session.ledger.clock.now_ms()
        for observation, span in converted.spans:
            listed = own[observation.id]
            try:  # stored is the observation as listed, not as resolved: listings are compared with it
                again = second_read_ms(listed, now)
                encoded.append(encode(listed, span, project, again, part.trace.replaced.get(listed.id)))
            except Exception as error:  # noqa: BLE001 - it concerns this observation alone
                self.dead_letters.add_broken(listed, "it cannot be serialised", error)
        for observation, broken in converted.failed:
            self.dead_letters.add_broken(own[observation.id], "it cannot be converted", broken)
        part.trace.left_out += converted.dropped
        self.session.report.notes.update(converted.notes)
        return encoded
