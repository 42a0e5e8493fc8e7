"""Quotas: what a group may hold, what it holds, and the journal of every change."""
