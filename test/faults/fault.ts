import type { SQSClient } from '@aws-sdk/client-sqs';
import type { OrderRequest } from '@orders/shared/order/order.ts';
import type { QueueUrls } from '@orders/shared/sqs/queue-admin.ts';
import type { CredentialServer } from './credential-server.ts';
import type { Poison } from './invariants.ts';
import type { Random } from './random.ts';
import type { ServiceProcess } from './service-process.ts';
import type { SqsFaultProxy } from './sqs-fault-proxy.ts';
import type { Store } from './store.ts';
import type { Client, Submission } from './workload.ts';

/** What a fault is done to. */
export type FaultScene = {
  random: Random;
  proxy: SqsFaultProxy;
  store: Store;
  producer: ServiceProcess;
  consumers: readonly ServiceProcess[];
  /** Its name. */
  deadLetterQueue: string;
  /** Straight to SQS, past the proxy. */
  sqs: SQSClient;
  queues: QueueUrls;
  /** Posts orders as the campaign's own clients do. */
  client: Client;
  /** An order that nothing is wrong with, without an id of its own. */
  model: OrderRequest;
  /** Says what was sent beside the workload, so that it is judged with it. */
  sent: { orders: (orders: readonly Submission[]) => void; poison: (poison: readonly Poison[]) => void };
  /** Says that an operator's tool did not do what it promises, in words. */
  toolFailed: (what: string) => void;
  /** Says that the services could not reach SQS for a while, although it was there. */
  cutOff: () => void;
  /** Where the services get their credentials, when the trial has one. */
  credentials: CredentialServer | undefined;
  /** Of the trial, for files of its own. */
  folder: string;
  /** For tools that operators call: what tells them of the queues. */
  toolEnv: NodeJS.ProcessEnv;
  /** Read by libfaketime in the services, where the trial has it. */
  clockFile: string;
  note: (event: string) => void;
};

/** What the trial must have for it. */
export type FaultNeeds = {
  /** It is done to the store. One such fault a trial: two would hinder each other. */
  store?: Store['kind'] | 'either';
  consumers?: 2;
  clock?: true;
  limitedDisk?: true;
  /** It fills the disk, too: not beside one that is limited. */
  room?: true;
  /** The services get credentials that expire. */
  credentials?: true;
  /** The store is behind a pooler. */
  pooler?: true;
  /** Of the trial, when it should begin rather late: there must be something to do it to. */
  late?: true;
};

export type Fault = {
  name: string;
  needs: FaultNeeds;
  /**
   * Does it and undoes it. Resolves when it has ended, though what was killed may still be starting, with how often it
   * struck: requests, processes; once for a state of store or clock that came about. 0 when there was nothing to strike.
   */
  run: (scene: FaultScene) => Promise<number>;
};
