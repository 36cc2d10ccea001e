"""LoRA fine-tuning of any image-text-to-text checkpoint on plans: questions and answers as the planner has them."""
