import type { Contacts } from './contacts.ts';
import { runbookOf } from './prometheus.ts';
import { ALERT_RULES, type AlertRule } from './rules.ts';
import { PERFORMANCE, RULES, SLOS, type Urgency } from './thresholds.ts';

type Language = 'en' | 'ko';

const TEXT = {
  en: {
    title: '# Runbooks',
    generated:
      'Generated from `monitoring/` by `npm run docs`; `npm run check` fails if this page is outdated.',
    other: '[한국어](README.ko.md). If the two differ, this page is right.',
    intro:
      'Every alert has a page: what it means for customers, the first five minutes, what to do, and how to see that it is over. Start with the most urgent alert; the others may be its consequences.',
    alerts: '## Alerts',
    alertColumns: ['alert', 'severity', 'urgency', 'after, or within'],
    thresholds: '## Thresholds',
    thresholdNote:
      'Between goal and warning, nobody is called. Low rates count only while messages wait. The rules of the alerts decide the severity: a depth above `100` is a warning, although it is called danger here.',
    thresholdColumns: ['figure', 'goal', 'warning', 'danger'],
    figures: {
      ordersPerSecond: 'orders stored per second',
      responseSeconds: 'mean response',
      queueDepth: 'messages that wait',
      memoryShare: 'memory, of the limit',
      cpuShare: 'CPU, of one processor',
    },
    objectives: '## Objectives',
    objectiveLines: [
      `- \`${percent(SLOS.stored.objective)}\` of the accepted orders are stored within \`${SLOS.stored.withinSeconds} s\`.`,
      `- \`${percent(SLOS.answered.objective)}\` of the requests that place orders are answered without a 5xx within \`${SLOS.answered.withinSeconds * 1_000} ms\`.`,
      `- \`critical\`: more than \`${RULES.deadLetters.critical}\` dead letters, or an order that waits for more than \`${RULES.delaySeconds.critical} s\`. \`warning\`: more than \`${RULES.queueDepth.warning}\` messages that wait, or more than \`${percent(RULES.errorShare.warning)}\` errors.`,
    ],
    whom: '## Whom to call',
    whomNote:
      'Alertmanager tells the first at once. Whoever takes an alert silences it: that ends the escalation. The addresses are in `monitoring/contacts.yaml`.',
    whomColumns: ['urgency', 'at once', 'if nobody answers', 'if it is not over'],
    after: (time: string, whom: string) => `after \`${time}\`: ${whom}`,
  },
  ko: {
    title: '# 런북',
    generated: '`npm run docs`가 `monitoring/`에서 생성합니다. 뒤처지면 `npm run check`가 실패합니다.',
    other: '[English](README.md). 두 문서가 다르면 영어 문서가 맞습니다.',
    intro:
      '경보마다 한 쪽이 있습니다. 고객에게 무엇을 뜻하는지, 처음 5분에 할 일, 조치, 끝났는지 확인하는 방법을 담았습니다. 가장 긴급한 경보부터 봅니다. 나머지는 그 결과일 수 있습니다.',
    alerts: '## 경보',
    alertColumns: ['경보', '심각도', '긴급도', '지속 시간 또는 기간'],
    thresholds: '## 임계값',
    thresholdNote:
      '목표와 경고 사이에서는 아무도 부르지 않습니다. 낮은 속도는 기다리는 메시지가 있을 때만 셉니다. 심각도는 경보 규칙이 정합니다. 깊이가 `100`을 넘으면 여기서는 위험이지만 경고로 알립니다.',
    thresholdColumns: ['지표', '목표', '경고', '위험'],
    figures: {
      ordersPerSecond: '초당 저장된 주문',
      responseSeconds: '평균 응답',
      queueDepth: '기다리는 메시지',
      memoryShare: '메모리(한도 대비)',
      cpuShare: 'CPU(프로세서 하나 대비)',
    },
    objectives: '## 목표 수준',
    objectiveLines: [
      `- 접수된 주문의 \`${percent(SLOS.stored.objective)}\`가 \`${SLOS.stored.withinSeconds} s\` 안에 저장됩니다.`,
      `- 주문 요청의 \`${percent(SLOS.answered.objective)}\`가 5xx 없이 \`${SLOS.answered.withinSeconds * 1_000} ms\` 안에 응답됩니다.`,
      `- \`critical\`: DLQ 메시지가 \`${RULES.deadLetters.critical}\`개를 넘거나 주문이 \`${RULES.delaySeconds.critical} s\`를 넘게 기다림. \`warning\`: 기다리는 메시지가 \`${RULES.queueDepth.warning}\`개를 넘거나 오류가 \`${percent(RULES.errorShare.warning)}\`를 넘음.`,
    ],
    whom: '## 연락할 곳',
    whomNote:
      'Alertmanager가 첫 담당에게 즉시 알립니다. 맡은 사람이 경보를 침묵시키면 에스컬레이션이 끝납니다. 주소는 `monitoring/contacts.yaml`에 있습니다.',
    whomColumns: ['긴급도', '즉시', '응답이 없으면', '끝나지 않으면'],
    after: (time: string, whom: string) => `\`${time}\` 뒤: ${whom}`,
  },
};

/** docs/runbooks/README.md, and its Korean twin. */
export function runbookIndex({ contacts, escalation }: Contacts, language: Language): string {
  const text = TEXT[language];
  const names = (keys: readonly string[]) => keys.map((key) => contacts[key]?.name).join(', ') || '–';
  const alerts = Object.values(
    Object.groupBy(ALERT_RULES, ({ alert, severity, urgency }) => `${alert} ${severity} ${urgency}`),
  ).map((rules = []) => {
    const [{ alert, severity, urgency }] = rules as [AlertRule];
    const page = runbookOf(alert).replace('.md', language === 'ko' ? '.ko.md' : '.md');
    const times = rules.map(({ labels, for: after }) => labels?.['window'] ?? after ?? '–');
    return [`[${alert}](${page})`, severity, urgency, [...new Set(times)].join(', ')];
  });
  const thresholds = Object.entries(PERFORMANCE).map(([figure, { goal, warning, danger }]) => {
    const [aim, beyond] = figure === 'ordersPerSecond' ? ['>', '<'] : ['<', '>'];
    const show = (value: number) =>
      figure.endsWith('Share')
        ? percent(value)
        : figure === 'responseSeconds'
          ? `${value * 1_000} ms`
          : value;
    return [
      text.figures[figure as keyof typeof PERFORMANCE],
      `\`${aim} ${show(goal)}\``,
      `\`${beyond} ${show(warning)}\``,
      `\`${beyond} ${show(danger)}\``,
    ];
  });
  const whom = (['critical', 'high', 'medium', 'low'] satisfies Urgency[]).map((urgency) => {
    const { first, second, escalateTo, respondWithin, escalateAfter } = escalation[urgency];
    return [
      `\`${urgency}\``,
      names(first),
      text.after(respondWithin, names(second)),
      text.after(escalateAfter, names(escalateTo)),
    ];
  });
  return `${[
    text.title,
    text.generated,
    text.other,
    text.intro,
    text.alerts,
    table(text.alertColumns, alerts),
    text.thresholds,
    text.thresholdNote,
    table(text.thresholdColumns, thresholds),
    text.objectives,
    text.objectiveLines.join('\n'),
    text.whom,
    text.whomNote,
    table(text.whomColumns, whom),
  ].join('\n\n')}\n`;
}

export function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n');
}

function percent(share: number): string {
  return `${Number((share * 100).toFixed(3))} %`;
}
