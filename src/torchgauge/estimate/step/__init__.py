"""What a step did, for pictures: operators, memory by role, and what flowed where."""
