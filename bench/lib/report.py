"""The table: one row for each comparison and setting."""
from collections import namedtuple
from statistics import median

# smaller: a ratio that is to be small; at_least and goal: bounds of the ratio, or of ours if there is nothing to compare with
Row = namedtuple('Row', 'name setting unit ours theirs ratios at_least goal smaller')

HEADER = ('| comparison | setting | unit | dugong | other | ratio (min–max) | required | goal | met |\n'
          '|---|---|---|--:|--:|--:|--:|--:|---|')


def pairs(name, setting, unit, runs, at_least=None, goal=None, ours=0, theirs=1, inverse=False, smaller=False):
    """A row out of repetitions, each with a value for every side.  inverse: times, of which less is more; smaller: so is the ratio."""
    mine, other = [run[ours] for run in runs], [run[theirs] for run in runs]
    ratios = [(b / a if inverse else a / b) for a, b in zip(mine, other)]
    return Row(name, setting, unit, median(mine), median(other), ratios, at_least, goal, smaller)


def sizes(name, setting, unit, ours, theirs, at_most, goal):
    """A row in which less is better."""
    return Row(name, setting, unit, ours, theirs, [ours / theirs], at_most, goal, True)


def absolute(name, setting, unit, ours, at_most, goal):
    """A row without another side, in which less is better."""
    return Row(name, setting, unit, ours, None, [], at_most, goal, True)


def verdict(row):
    if row.at_least is None:
        return ''
    value = median(row.ratios) if row.ratios else row.ours

    def within(bound):
        return value <= bound if row.smaller else value >= bound

    if not within(row.at_least):
        return '**no**'
    return 'goal' if row.goal is not None and within(row.goal) else 'yes'


def figure(value):
    if value is None:
        return ''
    return '%.0f' % value if abs(value) >= 100 or value == int(value) else '%.3g' % value


def bound(row, value):
    return '' if value is None else ('≤ ' if row.smaller else '≥ ') + '%g' % value


def line(row):
    ratio = ''
    if len(row.ratios) > 1:
        ratio = '%.2f (%.2f–%.2f)' % (median(row.ratios), min(row.ratios), max(row.ratios))
    elif row.ratios:
        ratio = '%.2f' % row.ratios[0]
    return '| ' + ' | '.join([row.name, row.setting, row.unit, figure(row.ours), figure(row.theirs), ratio,
                              bound(row, row.at_least), bound(row, row.goal), verdict(row)]) + ' |'
