import type { ruleFile } from '../prometheus.ts';

type RuleFile = ReturnType<typeof ruleFile>;

export type ShortenedOptions = {
  /** What a minute becomes. */
  minuteSeconds: number;
  /** No window becomes shorter: a rate needs two samples in it. */
  shortestWindowSeconds: number;
  evaluateSeconds: number;
};

const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;
const WINDOW = /(\[|\boffset )(\d+)([smhd])/g;

/** The same rules with shorter windows and waits: what takes minutes in production takes seconds. Thresholds stay. */
export function shortened(rules: RuleFile, options: ShortenedOptions): RuleFile {
  const { minuteSeconds, shortestWindowSeconds, evaluateSeconds } = options;
  const short = (amount: string | number, unit: string, least: number) =>
    `${Math.max(least, Math.ceil((Number(amount) * SECONDS[unit as keyof typeof SECONDS] * minuteSeconds) / 60))}s`;
  const shortWait = (wait: string) => short(wait.slice(0, -1), wait.slice(-1), evaluateSeconds);
  return {
    groups: rules.groups.map((group) => ({
      ...group,
      interval: `${evaluateSeconds}s`,
      rules: group.rules.map((rule) => ({
        ...rule,
        expr: rule.expr.replace(
          WINDOW,
          (_, before, amount, unit) => `${before}${short(amount, unit, shortestWindowSeconds)}`,
        ),
        ...('for' in rule && rule.for !== undefined ? { for: shortWait(rule.for) } : {}),
        ...('keep_firing_for' in rule && rule.keep_firing_for !== undefined
          ? { keep_firing_for: shortWait(rule.keep_firing_for) }
          : {}),
      })),
    })),
  } as RuleFile;
}
