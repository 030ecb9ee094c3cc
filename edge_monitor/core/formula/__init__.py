"""Formulas and expressions over signals: the tree that a text becomes, and the flat program that a plan holds."""
