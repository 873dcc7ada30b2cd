// Formulas are left as they are written, so that the site needs no network.
