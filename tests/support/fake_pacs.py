"""A destination in memory, held to the contract of the real ones; for tests of what calls destinations."""

from collections.abc import Sequence
from io import BytesIO

import pydicom

from node.deliver.compare import same_metadata
from node.deliver.destination import Outgoing, Result
from node.deliver.reading import in_order, of_proof, read_and_compare, result
from sync.evidence import Evidence, InstanceProof, Outcome


class FakePacs:
    """Keeps bytes by SOP Instance UID, and the old ones where the same comes with others."""

    strongest = Evidence.READ_BACK

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, bytes]] = {}

    def close(self) -> None:
        """Nothing is open."""

    def present(self, study_uid: str) -> frozenset[str]:
        return frozenset(uid for uid, (study, _) in self.kept.items() if study == study_uid)

    def store(self, instances: Sequence[Outgoing]) -> list[Result]:
        there = self.present(instances[0].study_uid) if instances else frozenset()
        return in_order(instances, {one.uid: self._store(one, one.uid in there) for one in instances})

    def _store(self, instance: Outgoing, there: bool) -> Result:
        if there:
            return of_proof(instance.uid, self._prove(instance, Evidence.READ_BACK))
        part10 = b"".join(instance.open())
        try:
            header = pydicom.dcmread(BytesIO(part10), stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            return result(instance.uid, Outcome.REJECTED, "C499")
        if header.StudyInstanceUID != instance.study_uid:
            return result(instance.uid, Outcome.REJECTED, "A901")
        self.kept[instance.uid] = (instance.study_uid, part10)
        return result(instance.uid, Outcome.STORED)

    def prove(
        self, study_uid: str, instances: Sequence[Outgoing], demanded: Evidence
    ) -> dict[str, InstanceProof]:
        here = [one for one in instances if one.uid in self.present(study_uid)]
        return {one.uid: self._prove(one, demanded) for one in here}

    def _prove(self, instance: Outgoing, demanded: Evidence) -> InstanceProof:
        listed = InstanceProof(instance.sha256, Evidence.LISTED)
        if demanded <= Evidence.LISTED:
            return listed
        kept = self.kept[instance.uid][1]
        if demanded is Evidence.METADATA:
            shown = pydicom.dcmread(BytesIO(kept), stop_before_pixels=True).to_json_dict()
            same = same_metadata(b"".join(instance.open()), shown)
            level = Evidence.METADATA if same else Evidence.LISTED
            return InstanceProof(instance.sha256, level, conflict=not same)
        return read_and_compare(instance, lambda: [kept], frozenset()) or listed
