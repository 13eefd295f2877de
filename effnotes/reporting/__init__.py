"""What a chapter reports with: claims with their verdicts, tables and records that are kept, and the style of figures."""
