"""Schedule records: the one documented format of edges and sparse inputs, on chip and streamed.

A record tells one processing element what to do next: read the operand word at (`bank`,
`address`), multiply by `value`, add to the open row `slot`, and close the row after the `last`
one. A record with `valid` 0 adds nothing: an idle slot, or the end of an empty row. Fields whose
width is zero are left out (no `bank` with one bank, no `slot` with one open row, no `value` where
all values are one). The records of all processing elements of one cycle lie side by side, PE 0
lowest. A record is repeated by the hardware for every chunk of the row, so `chunk` is not stored.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgq_hw.schedule import Schedule

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: `bits` wide, its lowest bit at `low`."""

    name: str
    bits: int
    low: int


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """Layout of a record, least significant field first."""

    fields: tuple[Field, ...]

    @classmethod
    def make(cls, **bits: int) -> "RecordFormat":
        """Lay fields out in the order given; fields of zero bits are left out."""
        fields: list[Field] = []
        low = 0
        for name, width in bits.items():
            if width:
                fields.append(Field(name, width, low))
                low += width
        return cls(tuple(fields))

    @property
    def bits(self) -> int:
        """Width of a record."""
        return sum(field.bits for field in self.fields)

    def find(self, name: str) -> Field | None:
        """Return a field, or None where it has no bits."""
        return next((field for field in self.fields if field.name == name), None)

    def pack(self, **values: IntArray) -> IntArray:
        """Pack columns of codes into records, int64 [records]; negative codes wrap to their bits.

        Raises:
            ValueError: a column for a field that the format does not have, or one missing.
        """
        names = {field.name for field in self.fields}
        if names != set(values):
            raise ValueError(f"record fields {sorted(names)}, columns {sorted(values)}")
        packed = np.zeros(len(next(iter(values.values()))), np.int64)
        for field in self.fields:
            mask = (1 << field.bits) - 1
            packed |= (values[field.name] & mask) << field.low
        return packed


def scheduled_records(
    schedule: Schedule,
    banks: IntArray,
    addresses: IntArray,
    values: IntArray | None,
    record: RecordFormat,
) -> IntArray:
    """Code a schedule: int64 [steps, processing elements].

    Args:
        schedule: What every PE does in every step.
        banks: Bank of each CSR entry's operand row, int64 [entries].
        addresses: Its address there, int64 [entries].
        values: Code of each entry, or None where the record has no value.
        record: Format; without a `valid` field empty rows cannot be coded.

    Raises:
        ValueError: a record without an entry in a format without `valid`.
    """
    filled = schedule.entry >= 0
    entries = schedule.entry[filled]

    def of_entries(codes: IntArray) -> IntArray:
        column = np.zeros(filled.shape, np.int64)
        column[filled] = codes[entries]
        return column.reshape(-1)

    columns = {
        "last": schedule.last.astype(np.int64).reshape(-1),
        "address": of_entries(addresses),
    }
    if record.find("valid"):
        columns["valid"] = filled.astype(np.int64).reshape(-1)
    elif not filled.all():
        raise ValueError("an empty row needs a record format with a valid bit")
    if record.find("slot"):
        columns["slot"] = schedule.slot.reshape(-1)
    if record.find("bank"):
        columns["bank"] = of_entries(banks)
    if record.find("value"):
        columns["value"] = of_entries(np.ones(len(banks), np.int64) if values is None else values)
    return record.pack(**columns).reshape(filled.shape)
