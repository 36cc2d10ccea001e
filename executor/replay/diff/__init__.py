"""What two runs decided differently: decisions are aligned and compared by measures that fit what they speak of."""
