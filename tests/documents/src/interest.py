"""Money over time."""


def compound(principal, rate, years):
    """Return the capital after yearly compounding: each year's interest earns interest from then on."""
    for _ in range(years):
        principal += principal * rate
    return principal


def monthly_payment(loan, rate, months):
    """Return the annuity that pays a loan back in equal monthly instalments."""
    monthly = rate / 12
    return loan * monthly / (1 - (1 + monthly) ** -months)
